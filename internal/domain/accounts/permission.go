package accounts

import (
	"embed"
	"fmt"
	"slices"
	"strconv"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// The permission sets that this server uses. Contract: rules §3.3.
const (
	AccountService  = 3  // parametric codes of a service account, and their jump rules
	MiniProgramCode = 17 // getwxacode and related calls, which this server does not offer
	MiniProgramDev  = 18 // ordinary jump rules of a Mini Program; exclusive to one component at a time
	Linking         = 33
	OneItemOneCode  = 46
)

// AskedByDefault lists the permission sets that the authorisation page requests if the component names none.
var AskedByDefault = []int{AccountService, MiniProgramDev, Linking, OneItemOneCode}

// Exclusive reports whether only one component at a time may hold the permission set of an account.
func Exclusive(set int) bool { return set == MiniProgramDev }

// SetName returns the official name of a permission set; the name is empty for a set that this server does not use.
func SetName(set int) i18n.Message {
	if key := "set." + strconv.Itoa(set); catalog.Has(key) {
		return catalog.Text(key)
	}
	return i18n.Message{}
}

// ValidSets returns an error if a list of permission sets is invalid.
func ValidSets(sets []int) error {
	for _, id := range sets {
		if id < 1 || id > 1000 {
			return fmt.Errorf("%d: want numbers from 1 to 1000", id)
		}
	}
	return nil
}

// ordered returns the permission sets sorted and without duplicates.
func ordered(sets []int) []int {
	sets = slices.Clone(sets)
	slices.Sort(sets)
	return slices.Compact(sets)
}

// excluding returns the permission sets in "sets", without the exclusive ones that are also in "taken".
func excluding(sets, taken []int) []int {
	return slices.DeleteFunc(slices.Clone(sets), func(id int) bool { return Exclusive(id) && slices.Contains(taken, id) })
}
