"""Live video: cameras, streams and visitors' webcams, restored while one watches."""
