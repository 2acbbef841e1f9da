"""The `dcoder` command. Importing this loads nothing: each command's module is imported when it runs."""
