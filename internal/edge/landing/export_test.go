package landing

import "time"

// A page on a busy machine must not time out, which would change its text.
func init() { lookTime = time.Hour }
