package console

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// separated formats a number with thousands separators.
func separated[N int | int32 | int64](n N) string { return i18n.Grouped(int64(n)) }

// figure is a number that is formatted with thousands separators, even with %d.
type figure int64

// Format implements fmt.Formatter.
func (n figure) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, separated(int64(n))) }

// figureOf converts an integer to a figure.
func figureOf(n any) any {
	// Optional numbers in admin API responses are pointers; a named type such as time.Duration is not a count.
	if number := reflect.Indirect(reflect.ValueOf(n)); number.CanInt() && number.Type().PkgPath() == "" {
		return figure(number.Int())
	}
	return n
}

// named lists keys of texts whose numbers identify objects, so Say adds no separators; Say treats most keys "*.of" in the same way.
var named = []string{"batch", "package", "audit.fault", "codes.end", "serials.form"}

// Say returns a localised text in which counts have thousands separators.
func (v *request) Say(key string, values ...any) (string, error) {
	if strings.HasSuffix(key, ".of") && key != "orders.of" && key != "pages.of" || slices.Contains(named, key) {
		return v.Localizer.Say(key, values...)
	}
	shown := make([]any, len(values))
	for i, value := range values {
		shown[i] = figureOf(value)
	}
	return v.Localizer.Say(key, shown...)
}
