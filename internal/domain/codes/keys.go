package codes

// Keys are the permanent keys of the codes: one for all original codes, one
// for the texts of each version. Two keys over one space of original codes
// would collide, so the first is never replaced.
type Keys struct {
	Code    *CodeKey
	Text    map[byte]*TextKey // by version character
	Current byte              // the version of new batches
}

// FirstVersion is the version character of the first text key.
const FirstVersion = '0'
