"""An ephemeral agent: its life, its memory, its command, its socket."""
