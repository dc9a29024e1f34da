package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"image"
	_ "image/gif"  // a picture may be of these kinds
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/qrjump/qrjump/client"
)

type scanView struct {
	Text, User, Source, Moment, At string
	Asked                          bool
	Now                            *client.Explanation
	Then                           *client.Past
	Fault                          string
	Code                           template.HTML // a picture that the server drew
	Side                           int
	Long                           bool   // the text is too long for a code that a camera reads
	Link                           string // the text without its query, where it is a link: a prefix for a new rule
}

// Camera is the script that reads codes by a camera.
func (scanView) Camera() string { return camera.Path() }

// scan says what a text would open, and why. It records nothing.
func (c *Console) scan(v *visit) {
	v.w.Header().Set("Permissions-Policy", permitting("(self)"))
	q := v.r.URL.Query()
	data := scanView{Text: strings.TrimSpace(q.Get("text")), User: q.Get("user"), Source: q.Get("source"),
		Moment: q.Get("moment"), At: q.Get("at")}
	if key := q.Get("fault"); v.Has("scan.fault." + key) {
		data.Fault = v.say("scan.fault." + key)
	}
	if data.Text == "" {
		v.show(http.StatusOK, "scan", data)
		return
	}
	data.Asked = true
	data.Code, data.Side = draw(data.Text)
	data.Long = data.Side == 0
	if u, err := url.Parse(data.Text); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		data.Link, _, _ = strings.Cut(data.Text, "?")
	}
	asked := client.ScanRequest{Text: data.Text, User: data.User, Source: data.Source}
	status, err := http.StatusOK, error(nil)
	if data.Moment == "then" {
		at, wrong := moment(data.At)
		if wrong != nil {
			data.Fault = v.say("scan.fault.at")
			v.show(http.StatusUnprocessableEntity, "scan", data)
			return
		}
		data.At = at.In(time.Local).Format(fieldTime)
		data.Then = &client.Past{}
		*data.Then, err = v.api.ResolveThen(v.ctx(), asked, at)
	} else {
		data.Now = &client.Explanation{}
		*data.Now, err = v.api.Explain(v.ctx(), client.ExplainRequest{ScanRequest: asked, AssumePublished: data.Moment == "published"})
	}
	if said, ok := errors.AsType[*client.Problem](err); ok {
		data.Fault, status, data.Then, data.Now = said.Detail, said.Status, nil, nil
	} else if v.failed(err) {
		return
	}
	v.show(status, "scan", data)
}

// fieldTime is a time as a field of a form holds it.
const fieldTime = "2006-01-02T15:04:05"

// moment is a time as a form's field has it, in the server's zone, or RFC 3339.
func moment(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation(fieldTime, text, time.Local); err == nil {
		return at, nil
	}
	return time.ParseInLocation("2006-01-02T15:04", text, time.Local)
}

const (
	// mostPicture is how long a picture may be in bytes, mostPixels how large.
	mostPicture = 4 << 20
	mostPixels  = 16 << 20
)

// picture reads the code on a picture and shows the page of its text. A script that asks for JSON,
// as the camera's does, gets the text or what was wrong.
func (c *Console) picture(v *visit) {
	text, fault, ok := c.readPicture(v)
	switch {
	case v.r.Header.Get("Accept") == "application/json" && (ok || fault != ""):
		said := map[string]string{"text": text}
		if !ok {
			said = map[string]string{"fault": fault, "says": v.say("scan.fault." + fault)}
		}
		v.w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(v.w).Encode(said) // an error means that the browser went away
	case fault != "":
		v.redirect(Root + "/scan?fault=" + fault)
	case ok:
		v.redirect(Root + "/scan?text=" + url.QueryEscape(text))
	}
}

// readPicture reads the code on a picture that was sent, and keeps nothing of the picture. It
// returns the code's text; or, with ok false, the word for what was wrong, or neither where it has
// answered already.
func (c *Console) readPicture(v *visit) (text, fault string, ok bool) {
	// One picture at a time for each person: reading one takes long.
	whom := v.caller.Actor + " " + v.caller.Session + " " + c.ClientIP(v.r).String()
	if _, busy := c.decoding.LoadOrStore(whom, true); busy {
		return "", "busy", false
	}
	defer c.decoding.Delete(whom)
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, mostPicture+64<<10)
	file, _, err := v.r.FormFile("picture")
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return "", "large", false
	}
	if err != nil {
		return "", "none", false
	}
	defer file.Close()
	defer func() { _ = v.r.MultipartForm.RemoveAll() }()
	about, _, err := image.DecodeConfig(file)
	switch {
	case err != nil:
		return "", "kind", false
	case about.Width*about.Height > mostPixels || about.Width <= 0 || about.Height <= 0:
		return "", "large", false
	}
	if _, err := file.Seek(0, io.SeekStart); v.failed(err) {
		return "", "", false
	}
	// A picture of mostPixels takes some hundred MB while it is read: so one at a time is read for
	// everybody together.
	done, err := c.reading.Take(v.r.Context(), 1, 0)
	if err != nil {
		return "", "", false
	}
	defer done()
	m, _, err := image.Decode(file)
	if err != nil {
		return "", "kind", false
	}
	if text, err = readCode(m); err != nil {
		return "", "code", false
	}
	return text, "", true
}

// readCode finds a QR code or a Data Matrix on a picture.
func readCode(m image.Image) (string, error) {
	var last error
	for _, reader := range []gozxing.Reader{qrcode.NewQRCodeReader(), datamatrix.NewDataMatrixReader()} {
		bitmap, err := gozxing.NewBinaryBitmapFromImage(m)
		if err != nil {
			return "", err
		}
		found, err := decode(reader, bitmap)
		if err == nil {
			return found, nil
		}
		last = err
	}
	return "", last
}

// decode returns an error where a stranger's picture makes a reader panic.
func decode(reader gozxing.Reader, bitmap *gozxing.BinaryBitmap) (text string, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the picture cannot be read: %v", fault)
		}
	}()
	found, err := reader.Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		return "", err
	}
	return found.GetText(), nil
}

// mostDrawn is how long a text may be, in bytes, for a phone to read its code from a screen.
const mostDrawn = 500

// draw is the QR code of a text, as a picture whose colours no theme changes; side 0 where the text
// is too long.
func draw(text string) (picture template.HTML, side int) {
	if len(text) > mostDrawn {
		return "", 0
	}
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return "", 0
	}
	const quiet = 4
	n := code.Bounds().Dx()
	side = n + 2*quiet
	var b strings.Builder
	for y := range n {
		for x := range n {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	return template.HTML(fmt.Sprintf(`<svg class="qr" viewBox="0 0 %d %d" width="260" height="260" aria-hidden="true" `+
		`shape-rendering="crispEdges">`+
		`<path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="%s"/></svg>`, side, side, side, side, b.String())), side
}
