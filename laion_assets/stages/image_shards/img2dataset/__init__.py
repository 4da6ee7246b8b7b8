"""The engine that builds shards with img2dataset's own Downloader and Resizer."""
