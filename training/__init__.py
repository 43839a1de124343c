"""What training changes and leaves behind."""
