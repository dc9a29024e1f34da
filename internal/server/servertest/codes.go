package servertest

import (
	"fmt"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// CodeCall calls an endpoint of the code API as an account: CodeCall("brand", "applycode", …).
func (s *Server) CodeCall(appid, call, body string) Answer {
	s.t.Helper()
	return s.Do("POST", "/intp/marketcode/"+call+"?access_token="+s.Token(appid), body, "Content-Type: application/json")
}

// Apply applies for codes and returns the application_id.
func (s *Server) Apply(appid, order string, count int64) int64 {
	s.t.Helper()
	a := s.CodeCall(appid, "applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":%q}`, count, order))
	id := a.Number(s.t, "application_id")
	require.True(s.t, id != 0, "applycode of %s: %s", order, a.Body)
	return id
}

// Activate activates the codes first to last of an application for a page of appid.
func (s *Server) Activate(application int64, first, last int, appid string) {
	s.t.Helper()
	s.Admin("POST", fmt.Sprintf("/batches/%d/activations", application), fmt.Sprintf(`{"code_start":%d,"code_end":%d,"binding":{`+
		`"activity_name":"a","product_brand":"b","product_title":"t","product_code":"4006381333931","wxa_appid":%q,"wxa_path":"p"}}`,
		first, last, appid))
}

// LookupCode returns the admin API's record of a code.
func (s *Server) LookupCode(application, index int64) Answer {
	s.t.Helper()
	return s.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, application, index))
}

// CodeText returns the text of a code.
func (s *Server) CodeText(application, index int64) string {
	s.t.Helper()
	return s.LookupCode(application, index).Text(s.t, "code_url")
}
