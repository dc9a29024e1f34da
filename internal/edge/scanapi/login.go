package scanapi

import (
	"fmt"
	"net/http"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// loginRequest is the request body that names a user and the Mini Program to open.
type loginRequest struct {
	User  string `json:"user" required:"true" doc:"user ID of the app"`
	AppID string `json:"appid" required:"true" doc:"AppID of the Mini Program"`
}

type loginResponse struct {
	JSCode string `json:"js_code" doc:"code for /sns/jscode2session, valid once within five minutes"`
}

// login returns a js_code for a user of the app.
func (a *API) login(w http.ResponseWriter, r *http.Request, namespace string) {
	body, err := a.readBody(w, r, MaxRequest)
	var req loginRequest
	if err == nil {
		err = unmarshal(body, &req)
	}
	if err == nil {
		err = a.checkLogin(req)
	}
	if err == nil && userReplaced(body, req.User) {
		err = problem{http.StatusUnprocessableEntity, notUnicode}
	}
	var code string
	if err == nil {
		code, err = a.Codes.Login(r.Context(), req.AppID, namespace, req.User)
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	writeJSON(w, loginResponse{JSCode: code})
}

func (a *API) checkLogin(req loginRequest) error {
	if req.User == "" || len(req.User) > 512 {
		return problem{http.StatusUnprocessableEntity, "user: want 1 to 512 bytes"}
	}
	if app, ok := a.Resolver.Accounts.Account(req.AppID); !ok || app.Kind != accounts.MiniProgram {
		return problem{http.StatusUnprocessableEntity, fmt.Sprintf("appid: there is no Mini Program %.40q", req.AppID)}
	}
	return nil
}
