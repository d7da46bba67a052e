"""The command line: argv in, requests out, answers rendered."""
