package console

import (
	"encoding/json"
	"errors"
	"html/template"
	"image"
	_ "image/gif"  // GIF pictures may be uploaded
	_ "image/jpeg" // JPEG pictures may be uploaded
	_ "image/png"  // PNG pictures may be uploaded
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

type scanView struct {
	Text, User, Source, Moment, At string
	Asked                          bool
	Now                            *client.Explanation
	Then                           *client.StateAsOf
	Error                          string
	Code                           template.URL // a picture drawn by the server; "" = the text is too long for a camera
	Link                           string       // if the text is a link: the link without its query, as the prefix of a new rule
}

// Camera returns the path of the script that reads codes with a camera.
func (scanView) Camera() string { return pathOf("camera.js") }

// scan shows what a text would open, and why. It records nothing.
func (pages scanPages) scan(v *request) error {
	v.w.Header().Set("Permissions-Policy", permitting("(self)"))
	q := v.r.URL.Query()
	data := scanView{Text: strings.TrimSpace(q.Get("text")), User: q.Get("user"), Source: q.Get("source"),
		Moment: q.Get("moment"), At: q.Get("at")}
	if key := q.Get("fault"); v.Has("scan.fault." + key) {
		data.Error = v.say("scan.fault." + key)
	}
	if data.Text == "" {
		return v.show(http.StatusOK, "scan", data)
	}
	data.Asked = true
	if len(data.Text) <= symbol.MaxScreenPixels {
		picture, _ := symbol.ForScreen(data.Text) // a text of at most symbol.MaxScreenPixels bytes always fits in a QR code
		data.Code = template.URL(picture)
	}
	if u, err := url.Parse(data.Text); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		data.Link, _, _ = strings.Cut(data.Text, "?")
	}
	asked := client.ScanRequest{Text: data.Text, User: data.User, Source: data.Source}
	status, err := http.StatusOK, error(nil)
	if data.Moment == "then" {
		t, wrong := moment(data.At)
		if wrong != nil {
			data.Error = v.say("scan.fault.at")
			return v.show(http.StatusUnprocessableEntity, "scan", data)
		}
		data.At = t.In(time.Local).Format(fieldTime)
		data.Then = &client.StateAsOf{}
		*data.Then, err = v.api.Scans.ResolveAsOf(v.ctx(), client.ResolveAsOfQuery{Text: asked.Text, At: t, User: asked.User,
			Source: asked.Source})
	} else {
		data.Now = &client.Explanation{}
		*data.Now, err = v.api.Scans.Explain(v.ctx(), client.ExplainRequest{ScanRequest: asked,
			AssumePublished: data.Moment == "published"})
	}
	if said, ok := errors.AsType[*client.Problem](err); ok {
		data.Error, status, data.Then, data.Now = v.problemText(said), said.Status, nil, nil
	} else if err != nil {
		return err
	}
	return v.show(status, "scan", data)
}

// fieldTime is the time format of datetime fields in forms.
const fieldTime = "2006-01-02T15:04:05"

// moment parses a time from a form field in the server's zone, or in RFC 3339 format.
func moment(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(fieldTime, text, time.Local); err == nil {
		return t, nil
	}
	return time.ParseInLocation("2006-01-02T15:04", text, time.Local)
}

const (
	// maxPicture is the maximum size of a picture in bytes, and maxPixels in pixels.
	maxPicture = 4 << 20
	maxPixels  = 16 << 20
)

// picture decodes the code in an uploaded picture and shows the page of its text. A script that requests JSON, such as the camera
// script, receives the text or the error.
func (pages scanPages) picture(v *request) error {
	text, fault, err := v.readPicture()
	if err != nil || v.r.Header.Get("Accept") != "application/json" {
		return v.done(pictureText("/scan", "text", text, fault), err)
	}
	said := map[string]string{"text": text}
	if fault != "" {
		said = map[string]string{"fault": fault, "says": v.say("scan.fault." + fault)}
	}
	v.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(v.w).Encode(said) // an error means that the browser has disconnected
	return nil
}

// pictureText returns the address of the page that shows the text of a picture in a query parameter, or the fault of the picture.
func pictureText(page, parameter, text, fault string) string {
	if fault != "" {
		parameter, text = "fault", fault
	}
	return Root + page + "?" + parameter + "=" + url.QueryEscape(text)
}

// readPicture decodes the code in an uploaded picture and stores nothing of the picture. readPicture returns the text of the code, or the
// end of the text key of the picture's fault.
func (v *request) readPicture() (text, fault string, err error) {
	// Each person can decode only one picture at a time, because decoding takes long.
	value := v.caller.Actor + " " + v.caller.Session + " " + v.c.ClientIP(v.r).String()
	if _, busy := v.c.decoding.LoadOrStore(value, true); busy {
		return "", "busy", nil
	}
	defer v.c.decoding.Delete(value)
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxPicture+64<<10)
	file, _, err := v.r.FormFile("picture")
	if _, isLong := errors.AsType[*http.MaxBytesError](err); isLong {
		return "", "large", nil
	}
	if err != nil {
		return "", "none", nil
	}
	defer file.Close()
	defer func() { _ = v.r.MultipartForm.RemoveAll() }()
	config, _, err := image.DecodeConfig(file)
	switch {
	case err != nil:
		return "", "kind", nil
	case config.Width*config.Height > maxPixels || config.Width <= 0 || config.Height <= 0:
		return "", "large", nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", "", err
	}
	// Decoding a picture of maxPixels takes some hundred MB of memory, so the whole server decodes one picture at a time.
	done, err := v.c.reading.Acquire(v.r.Context(), 1, 0)
	if err != nil {
		return "", "", errAnswered // the browser has disconnected
	}
	defer done()
	m, _, err := image.Decode(file)
	if err != nil {
		return "", "kind", nil
	}
	if text, err = symbol.Find(m); err != nil {
		return "", "code", nil
	}
	return text, "", nil
}
