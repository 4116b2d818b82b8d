"""The command line: ``tf-largebatch COMMAND``, one file a command."""
