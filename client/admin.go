package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// Problem is an error response of the scan API or the admin API (RFC 9457).
type Problem struct {
	Type   string         `json:"type,omitempty"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail"`
	Errors []ProblemError `json:"errors,omitempty"`

	// If an object changed since the caller read it (see PreconditionFailed), Current is its current state and Changes lists its
	// latest changes.
	Current json.RawMessage `json:"current,omitempty"`
	Changes []ObjectChange  `json:"changes,omitempty"`
}

// ProblemError is one error in a request.
type ProblemError struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		separator := " "
		if strings.HasPrefix(e.Location, "line ") { // of a file
			separator = " cannot be loaded: "
		}
		text += "; " + strings.TrimSpace(e.Location+separator+e.Message)
	}
	return fmt.Sprintf("%d %s", p.Status, text)
}

// call is one call of the scan or the admin API.
type call struct {
	method, path string
	query        url.Values
	bearer       string
	body         any // nil = none
}

// adminCall makes a call of the scan API or the admin API and decodes the response into reply, a pointer to a struct (see decode).
func (c *transport) adminCall(ctx context.Context, k call, reply any) (json.RawMessage, error) {
	r := request{method: k.method, path: k.path, query: k.query, bearer: k.bearer, accept: "application/json, application/problem+json"}
	if k.body != nil {
		raw, err := encode(k.body)
		if err != nil {
			return nil, err
		}
		r.body, r.contentType = bytes.NewReader(raw), "application/json"
	}
	a, err := c.send(ctx, r, maxList)
	if err != nil {
		return nil, err
	}
	if err := c.readAnswer(k.method, k.path, a, reply); err != nil {
		return nil, err
	}
	return a.body, nil
}

// admin makes a call of the admin API; path may contain a query.
func (c *transport) admin(ctx context.Context, method, path string, body, reply any) error {
	path, rawQuery, _ := strings.Cut(path, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return err
	}
	_, err = c.adminCall(ctx, call{method: method, path: "/admin/v1/" + path, query: query, bearer: c.options.AdminToken,
		body: body}, reply)
	return err
}

// send calls an operation of the admin API and returns the response.
func send[T any](ctx context.Context, c *transport, method, path string, body any) (T, error) {
	var answer T
	err := c.admin(ctx, method, path, body, &answer)
	return answer, err
}

func get[T any](ctx context.Context, c *transport, path string) (T, error) {
	return send[T](ctx, c, http.MethodGet, path, nil)
}

func post[T any](ctx context.Context, c *transport, path string, body any) (T, error) {
	return send[T](ctx, c, http.MethodPost, path, body)
}

func put[T any](ctx context.Context, c *transport, path string, body any) (T, error) {
	return send[T](ctx, c, http.MethodPut, path, body)
}

func patch[T any](ctx context.Context, c *transport, path string, body any) (T, error) {
	return send[T](ctx, c, http.MethodPatch, path, body)
}

func remove[T any](ctx context.Context, c *transport, path string) (T, error) {
	return send[T](ctx, c, http.MethodDelete, path, nil)
}

// pathOf returns the path of an object in a collection, or of a resource of this object that the words in rest name.
func pathOf(collection string, id any, rest ...string) string {
	var path strings.Builder
	path.WriteString(collection)
	for _, part := range append([]string{fmt.Sprint(id)}, rest...) {
		path.WriteString("/" + url.PathEscape(part))
	}
	return path.String()
}

// params maps names of query parameters to their values. Parameters with a zero value are not sent.
type params map[string]any

// withQuery adds query parameters to a path.
func withQuery(path string, query params) string {
	if values := query.values(); len(values) > 0 {
		return path + "?" + values.Encode()
	}
	return path
}

func (p params) values() url.Values {
	values := url.Values{}
	for name, value := range p {
		v := reflect.ValueOf(value)
		switch {
		case v.IsZero():
		case v.Kind() == reflect.Slice:
			texts := make([]string, v.Len())
			for i := range texts {
				texts[i] = fmt.Sprint(v.Index(i))
			}
			values.Set(name, strings.Join(texts, ","))
		default:
			values.Set(name, fmt.Sprint(value))
		}
	}
	return values
}

// paramsOf returns the fields of a query struct that have the tag query, including fields of embedded structs.
func paramsOf(query any) params {
	p := params{}
	v := reflect.ValueOf(query)
	for field, value := range v.Fields() {
		switch name := field.Tag.Get("query"); {
		case field.Anonymous:
			maps.Copy(p, paramsOf(value.Interface()))
		case name != "":
			p[name] = value.Interface()
		}
	}
	return p
}
