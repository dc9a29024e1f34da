package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The names of the three APIs in a WrongServer error.
const (
	apiWire  = "platform API"
	apiScan  = "scan API"
	apiAdmin = "admin API"
)

// apiOf returns the API that a path belongs to.
func apiOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/admin/"):
		return apiAdmin
	case strings.HasPrefix(path, "/scan/"):
		return apiScan
	}
	return apiWire
}

// WrongServer is the error for a response that does not come from the called API. The called address belongs to another program, to another
// listener of the server or to a server of another qrjump version. The call may have taken effect; check before you repeat the call.
type WrongServer struct {
	URL    string // Base URL of the call.
	API    string // API is platform API, scan API or admin API.
	Call   string // method and path
	Reason string // Description of the unexpected response.
	// NoSuchCall means that a qrjump server responded but does not have the call: the server has another version, or runs without a
	// feature that the call needs, such as the emulator.
	NoSuchCall bool
}

func (w *WrongServer) Error() string {
	return fmt.Sprintf("%s: the response from %s is not from the %s (%s); check the address", w.Call, w.URL, w.API, w.Reason)
}

// invalidResponse returns the error for a response that does not come from the called API.
func (c *transport) invalidResponse(method, path, flaw string, args ...any) error {
	return &WrongServer{URL: c.baseOf(path), API: apiOf(path), Call: method + " " + path, Reason: fmt.Sprintf(flaw, args...)}
}

// The problem types of a call that reached the wrong listener or path.
const (
	problemElsewhere = "urn:qrjump:problem:wrong-listener"
	problemNoPath    = "urn:qrjump:problem:no-such-path"
)

// refused returns the error for an unsuccessful response: a *Problem, or a *WrongServer if the response does not come from a qrjump API.
func (c *transport) refused(method, path string, a answer) error {
	p, is := ReadProblem(a.status, a.body)
	if !is {
		return c.invalidResponse(method, path, "%s: %s", strings.TrimSpace(fmt.Sprint(a.status, " ", http.StatusText(a.status))),
			excerpt(a.body))
	}
	if p.Type == problemElsewhere || p.Type == problemNoPath {
		return &WrongServer{URL: c.baseOf(path), API: apiOf(path), Call: method + " " + path,
			Reason: fmt.Sprintf("%d: %s", a.status, p.Detail), NoSuchCall: p.Type == problemNoPath}
	}
	return p
}

// refusedUnread is like refused for a response whose body has not been read. A read error is ignored, because the partial body is all that
// can be shown.
func (c *transport) refusedUnread(method, path string, resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return c.refused(method, path, answer{resp.StatusCode, body})
}

// ReadProblem decodes an unsuccessful response, for callers that read responses themselves. If the response is not a problem
// document, "is" is false and p contains only the status.
func ReadProblem(status int, body []byte) (p *Problem, is bool) {
	p = &Problem{}
	if json.Unmarshal(body, p) != nil || p.Title == "" && p.Detail == "" {
		return &Problem{Title: http.StatusText(status), Status: status}, false
	}
	p.Status = status
	return p, true
}

// readAnswer decodes a successful response of the scan API or the admin API into reply, a pointer to a struct. Every call of the
// scan API and the admin API has a JSON object as its response; any other response results in an error.
func (c *transport) readAnswer(method, path string, a answer, reply any) error {
	if a.status/100 != 2 {
		return c.refused(method, path, a)
	}
	if c.options.InProcess {
		if err := json.Unmarshal(a.body, reply); err != nil {
			return c.invalidResponse(method, path, "%v in %s", err, excerpt(a.body))
		}
	} else if err := decode(a.body, reply, false); err != nil {
		return c.invalidResponse(method, path, "%v", err)
	}
	return nil
}

// decode decodes a JSON object into reply, a pointer to a struct, and returns the first error. Pointers, fields with omitempty or omitzero,
// and fields with the tag `answer:"optional"` may be absent; all other fields must be present, so that the JSON of another program is never
// mistaken for an empty response. An object with an errcode is an error, unless wire is true or reply has a field for it.
func decode(body []byte, reply any, wire bool) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return errors.New("not a JSON object: " + excerpt(body))
	}
	t := reflect.TypeOf(reply).Elem()
	if code, ok := object["errcode"]; ok && !wire && !hasField(t, "errcode") {
		var text string
		_ = json.Unmarshal(object["errmsg"], &text) // errmsg is optional, because the errcode is sufficient.
		return errors.New(excerpt([]byte("errcode " + string(code) + " " + text)))
	}
	if name := missing(t, body); name != "" {
		return fmt.Errorf("%s is missing in %s", name, excerpt(body))
	}
	if err := json.Unmarshal(body, reply); err != nil {
		return fmt.Errorf("%w in %s", err, excerpt(body))
	}
	return nil
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// missing returns the name of the first field of a type that is absent from a JSON object. missing ignores JSON that is neither an
// object nor a list; encoding/json checks such JSON later.
func missing(t reflect.Type, body json.RawMessage) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return missing(t.Elem(), body)
	case t == timeType || t == rawType || string(bytes.TrimSpace(body)) == "null":
		return ""
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		var list []json.RawMessage
		if json.Unmarshal(body, &list) != nil {
			return ""
		}
		for i, raw := range list {
			if name := missing(t.Elem(), raw); name != "" {
				return fmt.Sprintf("[%d].%s", i, name)
			}
		}
	case t.Kind() == reflect.Struct:
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil {
			return ""
		}
		return missingField(t, object)
	}
	return ""
}

func missingField(t reflect.Type, object map[string]json.RawMessage) string {
	for f := range t.Fields() {
		name, allowed := fieldName(f)
		switch {
		case name == "-":
		case name == "" && f.Anonymous:
			if scope := missingField(f.Type, object); scope != "" && !allowed {
				return scope
			}
		default:
			value, ok := object[name]
			if ok && string(value) == "null" && !slices.Contains(nullable, f.Type.Kind()) {
				ok = false
			}
			if !ok && !allowed {
				return name
			}
			if scope := missing(f.Type, value); ok && scope != "" {
				return strings.ReplaceAll(name+"."+scope, ".[", "[")
			}
		}
	}
	return ""
}

// fieldName returns the JSON name of a field, and whether the field may be absent.
func fieldName(f reflect.StructField) (name string, allowed bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" && !f.Anonymous || !f.IsExported() && !f.Anonymous {
		return "-", true
	}
	return name, strings.Contains(options, "omit") || f.Type.Kind() == reflect.Pointer || f.Tag.Get("answer") == "optional"
}

func hasField(t reflect.Type, name string) bool {
	for f := range t.Fields() {
		if found, _ := fieldName(f); found == name || found == "" && f.Anonymous && hasField(f.Type, name) {
			return true
		}
	}
	return false
}

// nullable lists the kinds of types of which JSON null is a valid value: for example, null can stand for an empty list.
var nullable = []reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface}
