package api

import (
	"errors"
	"fmt"
	"io"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/object"
)

// body reads the request's body, up to upstream's limit. It must have come when
// the request's time is over (see begin).
func (c *call) body() ([]byte, error) {
	data, err := c.readBody()
	if err == nil {
		c.auditBody(data)
	}
	return data, err
}

func (c *call) readBody() ([]byte, error) {
	size := c.r.ContentLength
	if size > object.MaxRequest {
		return nil, tooLarge()
	}
	if size == 0 {
		return nil, nil
	}
	if size > 0 {
		data := make([]byte, size)
		if _, err := io.ReadFull(c.r.Body, data); err != nil {
			return nil, brokenBody(err)
		}
		return data, nil
	}
	data, err := io.ReadAll(io.LimitReader(c.r.Body, object.MaxRequest+1))
	if err != nil {
		return nil, brokenBody(err)
	}
	if len(data) > object.MaxRequest {
		return nil, tooLarge()
	}
	return data, nil
}

// tooLarge is upstream's answer (apiserver endpoints/handlers/rest.go).
func tooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", object.MaxRequest))
}

func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return apierrors.NewBadRequest("the body of the request ended before its announced length")
	}
	return apierrors.NewBadRequest("unable to read the body of the request: " + err.Error())
}
