"""What a sweep found, as a page: one chart per file, one live app, one self-contained HTML file."""
