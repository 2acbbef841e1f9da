// The least that a pod can be: a static program that answers with its own moments.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"
)

func seconds(moment time.Time) float64 { return float64(moment.UnixMicro()) / 1e6 }

func main() {
	process := seconds(time.Now())
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		called := seconds(time.Now())
		json.NewEncoder(answer).Encode(map[string]float64{"process": process, "built": process, "called": called})
	})
	if http.ListenAndServe(":"+os.Getenv("PORT"), nil) != nil {
		os.Exit(1)
	}
}
