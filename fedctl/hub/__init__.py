"""What runs as the hub: sockets and threads around the operations."""
