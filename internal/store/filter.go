package store

import (
	"fmt"
	"strings"
)

// filter collects the conditions of a WHERE clause with their arguments; the zero value selects all rows.
type filter struct {
	conditions []string
	args       []any
}

// add adds a condition in which "?" stands for a value, if given is true.
func (f *filter) add(given bool, condition string, value any) {
	if given {
		f.args = append(f.args, value)
		f.conditions = append(f.conditions, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(f.args))))
	}
}

// addIn adds a condition in which "?" stands for a list of values, unless the list is empty.
func (f *filter) addIn(t *Tx, condition string, list []string) {
	if len(list) > 0 {
		f.conditions = append(f.conditions, strings.ReplaceAll(condition, "?", t.marks(1+len(f.args), len(list))))
		f.args = appendArgs(f.args, list)
	}
}

// limited returns the WHERE clause, an order and a limit, which is the last of the arguments.
func (f *filter) limited(order string, limit int) string {
	f.args = append(f.args, limit)
	return conditions(f.conditions) + order + fmt.Sprintf(` LIMIT $%d`, len(f.args))
}
