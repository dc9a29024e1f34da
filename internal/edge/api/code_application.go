package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

type segmentReply struct {
	CodeStart int64 `json:"code_start"`
	CodeEnd   int64 `json:"code_end"`
}

type applicationReply struct {
	envelope
	Status           codes.Status   `json:"status"`
	ApplicationID    int64          `json:"application_id"`
	ISVApplicationID string         `json:"isv_application_id"`
	CodeGenerateList []segmentReply `json:"code_generate_list"`
	CreateTime       int64          `json:"create_time"`
	UpdateTime       int64          `json:"update_time"`
}

// batchID returns the field application_id; 0 counts as absent, a negative number sets error 40097.
func (f *fields) batchID() int64 {
	id, _ := f.number("application_id")
	if id < 0 && f.err == nil {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.CodesApplicationMissing, "application_id is negative")
	}
	return int64(id)
}

func readBatchKey(f *fields) (codes.BatchKey, error) {
	f.numberAsString = "application_id"
	return codes.BatchKey{ID: f.batchID(), ISV: f.textOrNumber("isv_application_id")}, f.err
}

// queryApplication returns the state of an application for codes. Contract: marketcode §3.2.
func (a *API) queryApplication(ctx context.Context, c *call, key codes.BatchKey) (any, error) {
	b, err := a.Codes.Query(ctx, c.caller, key)
	if err != nil {
		return nil, err
	}
	status, since, ready, err := a.Codes.Progress(ctx, b)
	if err != nil {
		return nil, err
	}
	reply := applicationReply{envelope: success, Status: status, ApplicationID: b.ID, ISVApplicationID: b.ISV,
		CodeGenerateList: []segmentReply{}, CreateTime: b.CreatedAt.Unix(), UpdateTime: since.Unix()}
	for _, r := range ready {
		reply.CodeGenerateList = append(reply.CodeGenerateList, segmentReply{r.From, r.To})
	}
	return reply, nil
}
