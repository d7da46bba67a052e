"""What is kept and what goes: policies as pure functions over light records."""
