package store

import "strings"

// criteria collect the conditions of a query and their arguments. Conditions are added in the order in which they stand in the query,
// because SQLite numbers its placeholders so. The zero value has no conditions.
type criteria struct {
	conditions []string
	args       []any
}

// and adds a condition; each "?" in it stands for the next value.
func (w *criteria) and(condition string, values ...any) {
	for _, value := range values {
		condition = strings.Replace(condition, "?", w.bind(value), 1)
	}
	w.conditions = append(w.conditions, condition)
}

// andIf adds a condition if the query has this filter.
func (w *criteria) andIf(filtered bool, condition string, values ...any) {
	if filtered {
		w.and(condition, values...)
	}
}

// andIn adds a condition in which "?" stands for the values; without values, every row fulfils it.
func andIn[T any](w *criteria, t *Tx, condition string, values []T) {
	if len(values) > 0 {
		w.conditions = append(w.conditions, strings.Replace(condition, "?", t.marks(1+len(w.args), len(values)), 1))
		w.args = appendArgs(w.args, values)
	}
}

// bind appends an argument and returns its placeholder.
func (w *criteria) bind(value any) string { return bind(&w.args, value) }

// String returns the WHERE clause; "" = no conditions.
func (w *criteria) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}
