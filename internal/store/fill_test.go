package store

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// filler gives every field of a noun a value of its own, so that a column that is forgotten or swapped with its neighbour shows.
type filler struct {
	n int
	// texts end with this: quotes, letters of other scripts, what SQL and JSON take for more than a letter.
	spice string
}

const spice = ` 'x' "y" \z $1 ? % _ <&> é 扫码 😀 U+FFFD ` + "\uFFFD\u2028\t\n"

func (f *filler) text() string {
	f.n++
	return fmt.Sprintf("t%d%s", f.n, f.spice)
}

// value fills v, which can be set, and all it is made of.
func (f *filler) value(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		// Another zone than that in which it comes back.
		moment := at.Add(time.Duration(f.n) * 1001 * time.Millisecond)
		v.Set(reflect.ValueOf(moment.In(time.FixedZone("", 8*3600))))
		return
	case rules.Prefix:
		v.Set(reflect.ValueOf(prefixOf(t, fmt.Sprintf("HTTPS://Shop-%d.Example/a/B/?q=%%27%d", f.n, f.n), rules.Ordinary)))
		return
	case rules.Kind:
		v.Set(reflect.ValueOf(rules.Ordinary))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.value(t, path+"[]", v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.value(t, path+" key", key)
			f.value(t, path+" value", value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			f.value(t, path+"."+field.Name, value)
		}
	default:
		t.Fatalf("teach the filler %s, a %s", path, v.Type())
	}
}

// filled is a T in which no field is empty.
func filled[T any](t *testing.T) T {
	t.Helper()
	var v T
	f := filler{spice: spice}
	f.value(t, reflect.TypeFor[T]().Name(), reflect.ValueOf(&v).Elem())
	return v
}

// emptied makes each list and map of a struct empty: nil or not.
func emptied[T any](v T, toNil bool) T {
	s := reflect.ValueOf(&v).Elem()
	for _, field := range s.Fields() {
		switch {
		case field.Kind() != reflect.Slice && field.Kind() != reflect.Map:
		case toNil:
			field.SetZero()
		case field.Kind() == reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 0, 0))
		default:
			field.Set(reflect.MakeMap(field.Type()))
		}
	}
	return v
}

func TestFiller_SetsEveryField(t *testing.T) {
	for _, v := range []any{filled[accounts.Account](t), filled[accounts.Component](t), filled[accounts.Token](t), filled[rules.Rule](t),
		filled[rules.ChangeMeta](t), filled[rules.Domain](t), filled[rules.Confirmation](t)} {
		for field, value := range reflect.ValueOf(v).Fields() {
			assert.True(t, !value.IsZero(), "%T.%s is empty", v, field.Name)
		}
	}
}
