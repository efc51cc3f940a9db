"""From the live machine to a recording. The only room that needs privileges."""
