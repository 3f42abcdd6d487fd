"""`make demo`: a simulated fleet of all five kinds of client, over real HTTP, for a look around."""
