{{/*
The pod template of a component. Arguments: root, component, sizing, args, and optionally grace, env, ports, startup,
readiness, liveness, preStop, restartPolicy.
*/}}
{{- define "pressroom.pod" -}}
{{- $root := .root -}}
{{- /* A pod that ends by itself does not reload its code. */ -}}
{{- $reloads := and $root.Values.development.enabled (not .restartPolicy) -}}
metadata:
  labels: {{- include "pressroom.selector" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "pressroom.config" $root | sha256sum }}
    {{- with .sizing.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pressroom.fullname" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace | default 30 }}
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: pressroom
      image: {{ include "pressroom.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      # Arguments of the image's entrypoint, which forwards signals from the first moment.
      args: {{- ternary (list "watchfiles" "--target-type" "command" (join " " .args)) .args $reloads | toYaml | nindent 8 }}
      envFrom:
        - configMapRef: {name: {{ include "pressroom.fullname" $root }}}
        {{- with $root.Values.extraEnvFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env: {{- include "pressroom.env" . | nindent 8 }}
      {{- with .ports }}
      ports: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .startup }}
      startupProbe: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .readiness }}
      readinessProbe: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if and .liveness (not $reloads) }}
      livenessProbe: {{- toYaml .liveness | nindent 8 }}
      {{- end }}
      {{- with .preStop }}
      lifecycle:
        preStop: {{- toYaml . | nindent 10 }}
      {{- end }}
      resources: {{- toYaml .sizing.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: {{ not $reloads }}
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- range include "pressroom.authorities" $root | fromJsonArray }}
        - {name: {{ .name }}-ca, mountPath: /etc/pressroom/{{ .name }}, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- range include "pressroom.authorities" $root | fromJsonArray }}
    - name: {{ .name }}-ca
      secret:
        secretName: {{ .secret }}
        items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
  {{- with .sizing.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .sizing.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .sizing.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .spread }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "pressroom.selector" $ | nindent 10 }}
      {{- /* Pods of the old revision do not count. Otherwise the new ones could share one node once those are gone. */}}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}

{{/* The CA certificates to mount, as a JSON list of name and secret. */}}
{{- define "pressroom.authorities" -}}
{{- $found := list -}}
{{- if and (not .Values.redis.enabled) .Values.externalRedis.caSecret -}}
{{- $found = append $found (dict "name" "redis" "secret" .Values.externalRedis.caSecret) -}}
{{- end -}}
{{- if and (not .Values.postgres.enabled) .Values.externalDatabase.caSecret -}}
{{- $found = append $found (dict "name" "postgres" "secret" .Values.externalDatabase.caSecret) -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* The environment: secrets, the component's variables, and the values' extraEnv, which overrides both. */}}
{{- define "pressroom.env" -}}
{{- $values := .root.Values -}}
{{- $redis := dict "name" (include "pressroom.server" (list .root "redis")) "key" "password" -}}
{{- $postgres := dict "name" (include "pressroom.server" (list .root "postgres")) "key" "password" -}}
{{- if not $values.redis.enabled -}}
{{- $redis = dict "name" $values.externalRedis.existingSecret "key" $values.externalRedis.passwordKey -}}
{{- else if dig "auth" "existingSecret" "" $values.redis -}}
{{- $_ := set $redis "name" $values.redis.auth.existingSecret -}}
{{- end -}}
{{- if not $values.postgres.enabled -}}
{{- $postgres = dict "name" $values.externalDatabase.existingSecret "key" $values.externalDatabase.passwordKey -}}
{{- else if dig "auth" "existingSecret" "" $values.postgres -}}
{{- $_ := set $postgres "name" $values.postgres.auth.existingSecret -}}
{{- end -}}
{{- $secret := $values.existingSecret | default (include "pressroom.fullname" .root) -}}
{{- $env := dict "SECRET_KEY" (dict "valueFrom" (dict "secretKeyRef" (dict "name" $secret "key" "SECRET_KEY"))) -}}
{{- if $redis.name }}{{ $_ := set $env "REDIS_PASSWORD" (dict "valueFrom" (dict "secretKeyRef" $redis)) }}{{ end -}}
{{- if $postgres.name }}{{ $_ := set $env "PGPASSWORD" (dict "valueFrom" (dict "secretKeyRef" $postgres)) }}{{ end -}}
{{- range $name, $value := mergeOverwrite (dict) (.env | default dict) $values.extraEnv (.sizing.extraEnv | default dict) -}}
{{- $_ := set $env $name (ternary $value (dict "value" (toString $value)) (kindIs "map" $value)) -}}
{{- end -}}
{{- range $name, $value := $env }}
- name: {{ $name }}
  {{- toYaml $value | nindent 2 }}
{{- end }}
{{- end }}
