package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const openapiV2Protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

// published measures how long after being established one more definition is
// in each of the documents that clients read. The times have the reading in
// them, as no answer is there before it is read, but not what the client does to
// unpack it: /openapi/v2 of a thousand is a hundred megabytes.
func (d *definer) published(ctx context.Context) error {
	for _, doc := range []struct {
		name, accept string
		path         func(n int) string
		sign         func(n int) string
	}{
		{"/apis", asJSON, func(int) string { return "/apis" }, groupOf},
		{"/apis, aggregated", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
			func(int) string { return "/apis" }, func(n int) string { return resourceOf(n).Resource }},
		{"/apis/GROUP/v1", asJSON, func(n int) string { return "/apis/" + groupOf(n) + "/v1" }, func(n int) string { return resourceOf(n).Resource }},
		{"/openapi/v3", asJSON, func(int) string { return "/openapi/v3" }, groupOf},
		{"/openapi/v3/apis/GROUP/v1", asJSON, func(n int) string { return "/openapi/v3/apis/" + groupOf(n) + "/v1" }, func(n int) string { return resourceOf(n).Resource }},
		{"/openapi/v2, JSON", asJSON, func(int) string { return "/openapi/v2" }, func(n int) string { return resourceOf(n).Resource }},
		{"/openapi/v2, protobuf", openapiV2Protobuf, func(int) string { return "/openapi/v2" }, func(n int) string { return resourceOf(n).Resource }},
	} {
		first := d.of("first "+doc.name+" with many definitions", "ms", lessIsBetter)
		r := d.of("one more definition, from established to "+doc.name, "ms", lessIsBetter).goal(100)
		profiled := d.ours.profile(ctx, "published "+doc.name, 5)
		for round := range 4 {
			cpu, began := d.spent(), time.Now()
			n, err := d.one(ctx)
			if err != nil {
				return err
			}
			d.of("one more definition, from its creation to established", "ms", lessIsBetter).add(d.who, milliseconds(time.Since(began)), milliseconds(d.spent()-cpu))
			cpu, began = d.spent(), time.Now()
			for {
				answer, err := d.read(ctx, doc.path(n), doc.accept)
				took, used := time.Since(began), d.spent()-cpu
				if err != nil {
					return err
				}
				if ok, err := answer.has(doc.sign(n)); err != nil {
					return err
				} else if ok {
					to := r
					if round == 0 {
						to = first
					}
					to.add(d.who, milliseconds(took), milliseconds(used))
					break
				}
				if took > 5*time.Minute {
					return fmt.Errorf("%s is not in %s after %s", resourceOf(n), doc.name, took)
				}
			}
		}
		<-profiled
	}
	return nil
}

// answer is a document as it came.
type answer struct {
	body []byte
	gzip bool
}

// read gets a document in gzip's form, as client-go asks for it.
func (d *definer) read(ctx context.Context, path, accept string) (a answer, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+path, nil)
	if err != nil {
		return a, err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", "gzip")
	got, err := d.plain.Do(r)
	if err != nil {
		return a, err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s: %s", path, got.Status)
	}
	a.gzip = got.Header.Get("Content-Encoding") == "gzip"
	a.body, err = io.ReadAll(got.Body)
	return a, err
}

func (a answer) has(sign string) (bool, error) {
	text := a.body
	if a.gzip {
		r, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return false, err
		}
		if text, err = io.ReadAll(r); err != nil {
			return false, err
		}
	}
	return bytes.Contains(text, []byte(sign)), nil
}
