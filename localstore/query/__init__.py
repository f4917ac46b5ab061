"""Reading runs: lists, histories, filters and export, over whatever this machine's keys open."""
