package landing

import "time"

// A busy machine may take its time, and then a page says that nobody can tell.
func init() { lookTime = time.Hour }
