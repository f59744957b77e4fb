"""What the papers prove, measured with the framework's own objectives and penalties. One file a lab."""
