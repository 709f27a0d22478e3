"""The browser page of live video: its server, and how pictures travel."""
