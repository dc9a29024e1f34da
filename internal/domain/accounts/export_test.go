package accounts

// TokenShaped is tokenShaped.
var TokenShaped = tokenShaped

// RememberAtMost sets how many tokens are remembered.
func (d *Service) RememberAtMost(n int) { d.identities.capacity = n }

// Remembered is how many tokens are remembered.
func (d *Service) Remembered() int { return len(d.identities.entries) }
