"""Memory, threads and oneDNN of a CPU, which make the networks fast there."""
