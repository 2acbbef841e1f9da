"""The container images that all functions run in, built without an engine: `dcoder image build`.

contents      what an image holds, is called and starts: every fact in one place
interpreter   the first layer: this machine's Python without what a function never uses
wheels        the locked wheels, each checked against its hash, without what a function never uses
bytecode      compiled ahead, the same bytes each time
bill          what is in a layer, as CycloneDX
layout        layers and configuration as an OCI image layout
archives      somebody else's image as the first layers
build         the order of it all
"""
