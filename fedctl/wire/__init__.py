"""How it is said on a socket: frames, their codec, and both sides of a session, with no socket inside."""
