package client

import (
	"context"
	"io"
	"time"
)

// CasePut holds the changes of a case. An empty Assignee or Note removes the stored one.
type CasePut struct {
	Title    string `json:"title" minLength:"1" maxLength:"128" pattern:"^[^\\x00]*$"`
	State    string `json:"state,omitempty" enum:"open,closed" doc:"default: the state stays, and a new case is open"`
	Assignee string `json:"assignee,omitempty" maxLength:"128" pattern:"^[^\\x00]*$" doc:"person who works on the case; default: none"`
	Note     string `json:"note,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" doc:"default: none"`
	// Alarms contains the IDs of all alarms of the case; nil leaves the alarms unchanged, and an empty list removes all.
	Alarms []int64 `json:"alarms,omitzero" maxItems:"1000" doc:"IDs of all alarms of the case; omit to keep the alarms; [] = none"`
}

// NewCase is a case to create. An account's case contains only alarms of this account.
type NewCase struct {
	CasePut
	Account string `json:"account,omitempty" maxLength:"128" doc:"AppID: the account of all alarms; default: any accounts; of a restricted caller, that of the first alarm or its only account"`
}

// Case groups alarms that belong together, such as those of a reseller.
type Case struct {
	ID        int64     `json:"id"`
	Account   string    `json:"account" answer:"optional" doc:"account of all alarms; empty = any, visible to callers of all accounts"`
	Title     string    `json:"title"`
	State     string    `json:"state" enum:"open,closed"`
	Assignee  string    `json:"assignee" answer:"optional" doc:"person who works on the case"`
	Note      string    `json:"note" answer:"optional"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
	// Alarms contains the alarms, oldest first; a list of cases does not contain them.
	Alarms []Alarm `json:"alarms,omitzero" doc:"alarms of the case, oldest first; absent in lists"`
	HasRevision
}

// CaseList is a list of cases without their alarms.
type CaseList struct {
	Cases []Case `json:"cases"`
}

// CaseQuery selects cases; the zero value selects the newest 100 cases.
type CaseQuery struct {
	Owner    string `query:"owner" maxLength:"128" doc:"AppID: only cases of this account; default: all visible accounts"`
	Before   int64  `query:"before" minimum:"0" doc:"only cases with a smaller ID"`
	State    string `query:"state" enum:"open,closed"` // "" means both.
	Assignee string `query:"assignee" maxLength:"128" doc:"only cases with this assignee"`
	Limit    int    `query:"limit" default:"100" minimum:"1" maximum:"1000"` // 0 means 100.
}

// ListCases returns cases without their alarms, newest first.
func (c AlarmsService) ListCases(ctx context.Context, q CaseQuery) ([]Case, error) {
	reply, err := OpListCases.call(ctx, c.transport, q)
	return reply.Cases, err
}

// GetCase returns a case with its alarms.
func (c AlarmsService) GetCase(ctx context.Context, id int64) (Case, error) {
	return OpGetCase.call(ctx, c.transport, Empty{}, id)
}

// CreateCase creates a case, and acknowledges the alarms that it contains.
func (c AlarmsService) CreateCase(ctx context.Context, item NewCase) (Case, error) {
	return OpCreateCase.call(ctx, c.transport, item)
}

// UpdateCase changes a case. It acknowledges the alarms that are added.
func (c AlarmsService) UpdateCase(ctx context.Context, id int64, item CasePut) (Case, error) {
	return OpPutCase.call(ctx, c.transport, item, id)
}

// CaseSheetQuery selects the form of a case's report.
type CaseSheetQuery struct {
	Format   string `query:"format" enum:"pdf,html" default:"pdf"`
	Language string `query:"language" enum:"en,zh" default:"en" doc:"language of the report"`
}

// WriteCaseSheet writes the report of a case to w, as pdf or html, in a language, en or zh. After an error, the written file is
// incomplete.
func (c AlarmsService) WriteCaseSheet(ctx context.Context, id int64, format, language string, w io.Writer) error {
	return c.pour(ctx, OpGetCaseSheet.request(c.transport, CaseSheetQuery{format, language}, id), fileTypes[format], w)
}
