"""A tenant's export: all that is a tenant's own as one signed tar archive, and its verification without any server."""

from shared.tenancy.export.verify import ArchiveVerdict, verify_archive
from shared.tenancy.export.writing import Source, write_export

__all__ = ["ArchiveVerdict", "Source", "verify_archive", "write_export"]
