"""The one seam between those who ask and those who answer: in-process, or over a socket."""
