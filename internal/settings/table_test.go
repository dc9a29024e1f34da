package settings

import (
	"reflect"
	"testing"
)

// The table says what every field of Settings means, in their order.
func TestEverySettingHasItsLine(t *testing.T) {
	kind := reflect.TypeFor[Settings]()
	fields := kind.NumField() - 2 // StrictFrom and AsOf are flags alone
	if len(Table) != fields {
		t.Fatalf("%d settings and %d lines of the table", fields, len(Table))
	}
	for i, f := range Table {
		if name := kind.Field(i).Tag.Get("json"); f.Name != name || f.Meaning().IsZero() {
			t.Errorf("the setting %s is %q in the table and means %q", name, f.Name, f.Meaning())
		}
	}
}
