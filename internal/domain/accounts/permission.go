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

var book = i18n.Open(locale)

// The permission sets that matter here. Contract: rules 3.3.
const (
	AccountService  = 3  // a service account's parametric codes and their jump
	MiniProgramCode = 17 // getwxacode and its relatives, which are not ours
	MiniProgramDev  = 18 // a Mini Program's ordinary rules; one platform at a time
	Linking         = 33
	OneItemOneCode  = 46
)

// AskedByDefault are the sets that a person is asked for where the platform names none.
var AskedByDefault = []int{AccountService, MiniProgramDev, Linking, OneItemOneCode}

// Exclusive reports whether one platform at a time may have a set of an account.
func Exclusive(set int) bool { return set == MiniProgramDev }

// SetName returns the official name of a set; none for a set without meaning here.
func SetName(set int) i18n.Message {
	if key := "set." + strconv.Itoa(set); book.Has(key) {
		return book.Text(key)
	}
	return i18n.Message{}
}

// ValidSets says why a list of permission sets cannot be.
func ValidSets(sets []int) error {
	for _, id := range sets {
		if id < 1 || id > 1000 {
			return fmt.Errorf("%d: want numbers from 1 to 1000", id)
		}
	}
	return nil
}

// ordered returns a list of sets, sorted, each once.
func ordered(sets []int) []int {
	sets = slices.Clone(sets)
	slices.Sort(sets)
	return slices.Compact(sets)
}

// excluding is sets, less the exclusive ones that are in taken.
func excluding(sets, taken []int) []int {
	return slices.DeleteFunc(slices.Clone(sets), func(id int) bool { return Exclusive(id) && slices.Contains(taken, id) })
}
