"""What `fedctl doctor` looks at: one function a check, in one table (`examine`). Only mending changes anything."""
