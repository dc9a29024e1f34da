package console

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/client"
)

// alarmPage is the page of one alarm: reason, time, number and places of scans, and what a buyer sees.
type alarmPage struct {
	alarmView
	Statistics []fact // the numbers recorded about the code when the alarm was raised
	Code       client.StoredCode
	Scans      client.CodeScans
	Places     []boxRow
	Placed     int64                 // number of scans with a known place
	Times      []client.RecordedScan // the first scans of the code
	Map        *placesMap
	Buyer      string // the text key of the message that a buyer reads
	Page       string // the address of the code's page; "" if the reader may not see the text of codes
	Traces     string // the address of the list of the code's scans, or of the scan of an alarm about a user
}

// fact is a number with its label.
type fact struct {
	Name  string
	Value int64
}

// alarm shows the page of one alarm.
func (pages alarmPages) alarm(v *request, id int64) error {
	list, err := v.api.Alarms.List(v.ctx(), client.AlarmQuery{After: id - 1, Limit: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 || list[0].ID != id {
		return v.nowhere()
	}
	data := alarmPage{alarmView: v.withReasons(list)[0]}
	data.Statistics = factsOf(list[0].Details)
	if data.CodeIndex < 0 {
		data.Traces = Root + "/statistics/scans/" + data.ScanID // shows the hash of the user, unless the user was erased
		return v.page("alarm", data, nil)
	}
	code := client.CodeName{ID: data.ApplicationID, Index: data.CodeIndex}
	if err := cmp.Or(storeResult(&data.Code)(v.api.Codes.Get(v.ctx(), code)),
		storeResult(&data.Scans)(v.api.Codes.GetScans(v.ctx(), code.ID, code.Index))); err != nil {
		return err
	}
	data.Buyer = buyerSees(data.Code)
	if text := data.Code.CodeURL; text != "" { // present only if the reader may see the text of codes
		data.Page = "https://" + text
		if v.c.Emulates {
			data.Page = v.c.Wire() + "/p/?u=" + url.QueryEscape(text)
		}
	}
	asked := client.ScanFilter{ApplicationID: data.ApplicationID, CodeIndex: data.CodeIndex}
	if first := data.Scans.FirstAt; first != nil {
		asked.From = first.Format(time.RFC3339)
	}
	times, err := v.api.Scans.ListPage(v.ctx(), client.ScanQuery{Limit: pageRows, ScanFilter: asked})
	data.Times = times.Scans
	data.Traces = Root + "/statistics/scans?" + url.Values{"code": {data.Name()}, "from": {asked.From}}.Encode()
	data.Map = mapOf(data.Scans.Places)
	for _, p := range data.Scans.Places {
		data.Placed += p.Scans
		data.Places = append(data.Places, boxRow{Name: v.say("alarm.place", v.valueName(p.Region), p.Networks), Scans: p.Scans,
			Part: tenth(100 * float64(p.Scans) / float64(data.Scans.Places[0].Scans))})
	}
	return v.page("alarm", data, err)
}

// factsOf returns the numbers in an alarm's reason.
func factsOf(d client.AlarmDetails) []fact {
	return slices.DeleteFunc([]fact{{"scans", d.Scans}, {"users", d.Users}, {"networks", int64(d.Networks)}, {"regions", int64(d.Regions)},
		{"impossible_travel_count", int64(d.ImpossibleTravelCount)}, {"days", int64(d.Days)}, {"unknown_texts", d.UnknownTexts},
		{"codes", d.Codes}}, func(f fact) bool { return f.Value == 0 })
}

// buyerSees returns the key of the text that a buyer reads on the page of a code in its current state.
func buyerSees(code client.StoredCode) string {
	switch {
	case code.Void:
		return "void"
	case code.Frozen:
		return "frozen"
	case !code.Active:
		return "not_active"
	case len(code.Alarms) > 0:
		return "copied"
	case code.Redeemed:
		return "redeemed"
	}
	return "active"
}

// placesMap shows the places of a code's scans by longitude and latitude. Borders are not drawn: maps with borders need official approval.
type placesMap struct {
	Wide, High      float64
	Meridians, Rows []written // lines of the grid with their labels
	Spots           []point
}

// point is a place on a map; its size shows how often the code was scanned there.
type point struct {
	X, Y, R float64
	Text    string
	Anchor  string
}

// mapOf draws the places with known coordinates; nil if there are none.
func mapOf(places []client.CodePlace) *placesMap {
	west, east, south, north, limit := 180.0, -180.0, 90.0, -90.0, int64(0)
	for _, p := range places {
		if p.Lat != nil && p.Lon != nil {
			west, east, limit = min(west, *p.Lon), max(east, *p.Lon), max(limit, p.Scans)
			south, north = min(south, *p.Lat), max(north, *p.Lat)
		}
	}
	if limit == 0 {
		return nil
	}
	// The map has a margin around the places, and degrees of longitude are scaled for the latitude.
	const wide, least = 480.0, 4.0
	middle, narrow := (west+east)/2, max(.2, math.Cos((south+north)/2*math.Pi/180))
	span := max(least, 1.4*(east-west), 1.4*(north-south)/narrow*1.6)
	scale := wide / span
	m := placesMap{Wide: wide, High: tenth(max(180, min(360, 1.5*(north-south)*scale/narrow)))}
	x := func(lon float64) float64 { return tenth(wide/2 + (lon-middle)*scale) }
	y := func(lat float64) float64 { return tenth(m.High/2 - (lat-(south+north)/2)*scale/narrow) }
	step := 1.0
	for _, next := range []float64{2, 5, 10, 20, 45} {
		if span/step > 6 {
			step = next
		}
	}
	degrees := func(n float64, plus, minus string) string {
		if n < 0 {
			n, plus = -n, minus
		}
		return strconv.FormatFloat(n, 'f', -1, 64) + "°" + plus
	}
	for lon := math.Ceil((middle-span/2)/step) * step; lon <= middle+span/2; lon += step {
		m.Meridians = append(m.Meridians, written{X: x(lon), Text: degrees(lon, "E", "W")})
	}
	half := m.High / 2 * narrow / scale
	for lat := math.Ceil(((south+north)/2-half)/step) * step; lat <= (south+north)/2+half; lat += step {
		m.Rows = append(m.Rows, written{Y: y(lat), Text: degrees(lat, "N", "S")})
	}
	for _, p := range places {
		if p.Lat == nil || p.Lon == nil {
			continue
		}
		s := point{X: x(*p.Lon), Y: y(*p.Lat), R: tenth(4 + 14*math.Sqrt(float64(p.Scans)/float64(limit))), Anchor: "start",
			Text: p.Region + " " + separated(p.Scans)}
		if s.X > wide*3/4 {
			s.Anchor = "end"
		}
		m.Spots = append(m.Spots, s)
	}
	return &m
}

// TextX returns the horizontal position of the label of a point.
func (s point) TextX() float64 {
	if s.Anchor == "end" {
		return s.X - s.R - 4
	}
	return s.X + s.R + 4
}
