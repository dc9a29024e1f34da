package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Op describes an operation of the admin API. The methods of a Client and the server use the same values, so that method, path, input and
// response are written once; programs call the methods.
type Op[In, Out any] struct {
	Method string
	Path   string // Path below /admin/v1, with its parameters in braces.
	ID     string // operationId in the OpenAPI document
}

// Empty is the input of an operation that has neither a query nor a body.
type Empty struct{}

// File is the response of an operation that returns a file or a stream instead of JSON.
type File struct{}

// call makes a call of an operation and decodes its response. The input is the query of a GET or DELETE operation, and the JSON body of
// other operations; for an operation whose body is a file, see request. path has the values of the path's parameters in their order.
func (o Op[In, Out]) call(ctx context.Context, c *transport, in In, path ...any) (out Out, err error) {
	_, err = o.raw(ctx, c, in, &out, path...)
	return out, err
}

// do is like call, but drops the response.
func (o Op[In, Out]) do(ctx context.Context, c *transport, in In, path ...any) error {
	_, err := o.call(ctx, c, in, path...)
	return err
}

// raw is like call, and also returns the JSON of the response.
func (o Op[In, Out]) raw(ctx context.Context, c *transport, in In, out *Out, path ...any) (json.RawMessage, error) {
	body := any(in)
	if _, none := body.(Empty); none || o.Method == http.MethodGet || o.Method == http.MethodDelete {
		body = nil
	}
	return c.adminCall(ctx, o.request(c, in, path...), body, out)
}

// request returns the request of a call without its body, for calls that send or receive a file; in is the query.
func (o Op[In, Out]) request(c *transport, in In, path ...any) request {
	return request{method: o.Method, path: o.url(path...), query: queryOf(reflect.ValueOf(in)), bearer: c.options.AdminToken}
}

// url returns the path of a call. The value of a last parameter {name...} contains slashes and is already escaped.
func (o Op[In, Out]) url(values ...any) string {
	parts := strings.Split("/admin/v1"+o.Path, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, "{") {
			continue
		}
		parts[i] = strings.TrimPrefix(fmt.Sprint(values[0]), "/")
		if !strings.HasSuffix(part, "...}") {
			parts[i] = url.PathEscape(fmt.Sprint(values[0]))
		}
		values = values[1:]
	}
	return strings.Join(parts, "/")
}

// queryOf returns the fields of a struct that have the tag query, including those of embedded structs. Zero values are omitted, each entry
// of a map is a parameter, and a time is in RFC 3339. The query of another type is empty.
func queryOf(in reflect.Value) url.Values {
	query := url.Values{}
	if in.Kind() != reflect.Struct {
		return query
	}
	for field, value := range in.Fields() {
		name := field.Tag.Get("query")
		switch {
		case field.Anonymous:
			maps.Copy(query, queryOf(value))
		case name == "" || value.IsZero():
		case value.Kind() == reflect.Map:
			for key, text := range value.Seq2() {
				if text.String() != "" {
					query.Set(key.String(), text.String())
				}
			}
		case value.Kind() == reflect.Slice:
			texts := make([]string, value.Len())
			for i := range texts {
				texts[i] = fmt.Sprint(value.Index(i))
			}
			query.Set(name, strings.Join(texts, ","))
		case value.Type() == timeType:
			query.Set(name, value.Interface().(time.Time).Format(time.RFC3339Nano))
		default:
			query.Set(name, fmt.Sprint(value))
		}
	}
	return query
}
