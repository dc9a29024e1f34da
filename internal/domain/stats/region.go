package stats

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Regions maps IP addresses to regions, using a file in the MaxMind DB format. A nil Regions returns no region for any address.
// Regions is safe for concurrent use.
type Regions struct {
	db *maxminddb.Reader
}

// regionRecord holds the fields that are read from an entry of a region file, in the format of GeoLite2-City and compatible files;
// a country file has no subdivisions.
type regionRecord struct {
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
	Traits struct {
		ConnectionType string `maxminddb:"connection_type"`
		UserType       string `maxminddb:"user_type"`
	} `maxminddb:"traits"`
}

// OpenRegions loads a region file into memory and verifies its structure. The error describes the defect of the region file.
func OpenRegions(path string) (*Regions, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%s is not a MaxMind DB file: %w", path, err)
	}
	// Every entry of the region file is read once here, so that damage is detected now and not during a scan. A field with an unexpected
	// type is not treated as damage.
	for entry := range db.Networks() {
		var found regionRecord
		err := entry.Err()
		if err == nil {
			err = entry.Decode(&found)
		}
		if broken, ok := errors.AsType[maxminddb.InvalidDatabaseError](err); ok {
			return nil, errors.Join(fmt.Errorf("%s is a corrupted MaxMind DB file: %w", path, broken), db.Close())
		}
	}
	return &Regions{db: db}, nil
}

// Close releases the memory of the region file.
func (r *Regions) Close() error {
	if r == nil {
		return nil
	}
	return r.db.Close()
}

// Lookup returns the ISO codes of an address's country and first subdivision, such as CN-31; CN if no subdivision is known; "" if
// the country is unknown.
func (r *Regions) Lookup(ip netip.Addr) string {
	found, ok := r.find(ip)
	if !ok {
		return ""
	}
	country := isoCode(found.Country.ISOCode)
	if country == "" || len(found.Subdivisions) == 0 {
		return country
	}
	if part := isoCode(found.Subdivisions[0].ISOCode); part != "" {
		return country + "-" + part
	}
	return country
}

// Coordinates returns the approximate location of an address, in degrees.
func (r *Regions) Coordinates(ip netip.Addr) (lat, lon float64, ok bool) {
	found, ok := r.find(ip)
	if !ok || found.Location.Latitude == nil || found.Location.Longitude == nil {
		return 0, 0, false
	}
	lat, lon = *found.Location.Latitude, *found.Location.Longitude
	return lat, lon, lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180
}

// Mobile reports whether a mobile carrier runs the network of the address according to the region file. Only files such as GeoIP2
// Enterprise contain this information; for other files Mobile returns false.
func (r *Regions) Mobile(ip netip.Addr) bool {
	found, ok := r.find(ip)
	return ok && (found.Traits.ConnectionType == "Cellular" || found.Traits.UserType == "cellular")
}

func (r *Regions) find(ip netip.Addr) (found regionRecord, ok bool) {
	if r == nil || !ip.IsValid() {
		return found, false
	}
	result := r.db.Lookup(ip.Unmap().WithZone(""))
	return found, result.Found() && result.Decode(&found) == nil
}

// isoCode returns a code from a region file, or "" if the text is not a code.
func isoCode(text string) string {
	if len(text) == 0 || len(text) > 3 {
		return ""
	}
	for _, c := range []byte(text) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return text
}
