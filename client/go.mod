module github.com/qrjump/qrjump/client

go 1.26.0
