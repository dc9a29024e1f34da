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

// filler generates values that differ, so that a test finds a column that is missing or swapped with another.
type filler struct{ n int }

// special has quotes, characters of other scripts, and characters with a meaning in SQL and JSON.
const special = ` 'x' "y" \z $1 ? % _ <&> é 扫码 😀 U+FFFD ` + "\uFFFD\u2028\t\n"

func (f *filler) text() string {
	f.n++
	return fmt.Sprintf("t%d%s", f.n, special)
}

// fill sets v and, recursively, its fields and elements.
func (f *filler) fill(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		// Not the time zone of the times that the store returns.
		value := t0.Add(time.Duration(f.n) * 1001 * time.Millisecond)
		v.Set(reflect.ValueOf(value.In(time.FixedZone("", 8*3600))))
		return
	case rules.Prefix:
		v.Set(reflect.ValueOf(parsePrefix(t, fmt.Sprintf("HTTPS://Shop-%d.Example/a/B/?q=%%27%d", f.n, f.n), rules.Ordinary)))
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
			f.fill(t, path+"[]", v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(t, path+" key", key)
			f.fill(t, path+" value", value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			f.fill(t, path+"."+field.Name, value)
		}
	default:
		t.Fatalf("filler: the type of %s, %s, is not supported", path, v.Type())
	}
}

// newFilled returns a T whose fields are not zero.
func newFilled[T any](t *testing.T) (v T) {
	t.Helper()
	new(filler).fill(t, reflect.TypeFor[T]().Name(), reflect.ValueOf(&v).Elem())
	return v
}

// withEmptyLists returns a copy of struct v in which each list and map is empty: nil if toNil is true.
func withEmptyLists[T any](v T, toNil bool) T {
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
	for _, v := range []any{newFilled[accounts.Account](t), newFilled[accounts.Component](t), newFilled[accounts.Token](t),
		newFilled[rules.Rule](t), newFilled[rules.ChangeMeta](t), newFilled[rules.Domain](t), newFilled[rules.Confirmation](t)} {
		for field, value := range reflect.ValueOf(v).Fields() {
			assert.True(t, !value.IsZero(), "field %s of a filled %T is zero", field.Name, v)
		}
	}
}
