"""What every script needs: command line, device, signals, processes, checkpoints, files."""
