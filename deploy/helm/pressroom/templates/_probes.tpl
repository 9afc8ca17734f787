{{/* What a probe of web asks, as JSON: a path, or with an empty one whether the port is open. */}}
{{- define "pressroom.webProbe" -}}
{{- ternary (dict "httpGet" (dict "path" . "port" "http")) (dict "tcpSocket" (dict "port" "http")) (ne . "") | toJson -}}
{{- end }}

{{/* The probes of a process without a port, as JSON. The file's text means ready, its age means alive. */}}
{{- define "pressroom.aliveFile" -}}
{{- dict
      "env" (dict "ALIVE_FILE" "/tmp/alive")
      "startup" (dict "exec" (dict "command" (list "test" "-s" "/tmp/alive")) "periodSeconds" 1 "timeoutSeconds" 5 "failureThreshold" 180)
      "readiness" (dict "exec" (dict "command" (list "grep" "-qx" "ready" "/tmp/alive")) "periodSeconds" 3 "timeoutSeconds" 5)
      "liveness" (dict "exec" (dict "command" (list "sh" "-c" "find /tmp/alive -mmin -1 | grep -q .")) "periodSeconds" 20 "timeoutSeconds" 10 "failureThreshold" 3)
    | toJson -}}
{{- end }}
