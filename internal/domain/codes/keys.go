package codes

// Keys are the permanent keys for codes: one key for all original codes, and one key per version for texts. Two keys for the same
// space of original codes would produce collisions, so the key for original codes is never replaced.
type Keys struct {
	Code    *CodeKey
	Text    map[byte]*TextKey // by version character
	Current byte              // version used for new batches
}

// FirstVersion is the version character of the first text key.
const FirstVersion = '0'
