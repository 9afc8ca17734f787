{{/*
The pod template of a component. Arguments: root, component, sizing, args, and optionally grace, env, ports, startup,
readiness, liveness, preStop, restartPolicy, spread, serviceAccount, token (mount the account's).
*/}}
{{- define "pressroom.pod" -}}
{{- $root := .root -}}
{{- /* A pod that ends by itself does not reload its code. */ -}}
{{- $reloads := and $root.Values.development.enabled (not .restartPolicy) -}}
{{- $pod := include "pressroom.basicPod" (dict "context" . "reloads" $reloads) -}}
{{- include "pressroom.finishPod" (dict "root" $root "sizing" .sizing "spread" .spread "pod" $pod) -}}
{{- end }}

{{- define "pressroom.basicPod" -}}
{{- $reloads := .reloads -}}
{{- with .context -}}
{{- $root := .root -}}
metadata:
  labels: {{- include "pressroom.selector" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "pressroom.config" $root | sha256sum }}
spec:
  serviceAccountName: {{ .serviceAccount | default (include "pressroom.serviceAccount" $root) }}
  automountServiceAccountToken: {{ .token | default false }}
  terminationGracePeriodSeconds: {{ .grace | default 30 }}
  {{- with .restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  securityContext: {runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}
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
      securityContext:
        readOnlyRootFilesystem: {{ not $reloads }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "pressroom.authorityMounts" $root | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- include "pressroom.authorityVolumes" $root | nindent 4 }}
{{- end }}
{{- end }}

{{/*
A pod template with what every pod of the chart has, what `global` says of every pod, and what the component's values
say of its pods. Every pod template passes here, those of the subcharts too. Arguments: root, sizing (the component's
values), pod (the pod template, whose first container is the component's), and optionally spread.
*/}}
{{- define "pressroom.finishPod" -}}
{{- $every := .root.Values.global | default dict -}}
{{- $own := .sizing -}}
{{- $pod := .pod | fromYaml -}}
{{- $spec := $pod.spec -}}
{{- $main := first $spec.containers -}}
{{- $selector := deepCopy $pod.metadata.labels -}}
{{- $_ := set $pod.metadata "labels" (merge $pod.metadata.labels ($own.podLabels | default dict | deepCopy) ($every.podLabels | default dict | deepCopy)) -}}
{{- $annotations := merge (dict) ($pod.metadata.annotations | default dict) ($own.podAnnotations | default dict) ($every.podAnnotations | default dict) -}}
{{- if $annotations }}{{ $_ := set $pod.metadata "annotations" $annotations }}{{ end -}}
{{- $_ := set $spec "enableServiceLinks" false -}}

{{- /* One value: the component's, else everybody's. */ -}}
{{- range $field := list "priorityClassName" "runtimeClassName" "affinity" -}}
{{- with coalesce (get $own $field) (get $every $field) }}{{ $_ := set $spec $field . }}{{ end -}}
{{- end -}}
{{- with merge (dict) ($own.nodeSelector | default dict) ($every.nodeSelector | default dict) }}{{ $_ := set $spec "nodeSelector" . }}{{ end -}}

{{- /* Lists: everybody's, then the component's. */ -}}
{{- range $field := list "tolerations" "hostAliases" "initContainers" -}}
{{- with concat (get $every $field | default list) (get $own $field | default list) }}{{ $_ := set $spec $field . }}{{ end -}}
{{- end -}}
{{- /* A container that restarts among the init containers starts before the component, and does not keep a Job. */ -}}
{{- range concat ($every.sidecars | default list) ($own.sidecars | default list) -}}
{{- $_ := set $spec "initContainers" (append ($spec.initContainers | default list) (merge (dict "restartPolicy" "Always") .)) -}}
{{- end -}}
{{- with concat ($every.extraVolumes | default list) ($own.extraVolumes | default list) -}}
{{- $_ := set $spec "volumes" (concat ($spec.volumes | default list) .) -}}
{{- end -}}
{{- with concat ($every.extraVolumeMounts | default list) ($own.extraVolumeMounts | default list) -}}
{{- $_ := set $main "volumeMounts" (concat ($main.volumeMounts | default list) .) -}}
{{- end -}}
{{- $secrets := list -}}
{{- range concat ($every.imagePullSecrets | default list) ($own.imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (ternary . (dict "name" .) (kindIs "map" .)) -}}
{{- end -}}
{{- with $secrets }}{{ $_ := set $spec "imagePullSecrets" . }}{{ end -}}

{{- $constraints := list -}}
{{- if .spread -}}
{{- $soft := dict "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}{{ $constraints = append $constraints (merge (dict "topologyKey" .) $soft) }}{{ end -}}
{{- end -}}
{{- $spread := list -}}
{{- range coalesce $own.topologySpreadConstraints $every.topologySpreadConstraints $constraints -}}
{{- /* Pods of the old revision do not count. Otherwise the new ones could share one node once those are gone. */ -}}
{{- $spread = append $spread (merge (dict) . (dict "labelSelector" (dict "matchLabels" $selector) "matchLabelKeys" (list "pod-template-hash"))) -}}
{{- end -}}
{{- with $spread }}{{ $_ := set $spec "topologySpreadConstraints" . }}{{ end -}}

{{- /* A hook of the values replaces the chart's as a whole. */ -}}
{{- range $hooks := list ($every.lifecycle | default dict) ($own.lifecycle | default dict) -}}
{{- range $when, $hook := $hooks -}}
{{- $_ := set $main "lifecycle" (set ($main.lifecycle | default dict) $when $hook) -}}
{{- end -}}
{{- end -}}

{{- if $every.openshift -}}
{{- $_ := set $spec "securityContext" (omit $spec.securityContext "runAsUser" "runAsGroup" "fsGroup") -}}
{{- end -}}
{{- $restricted := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- $_ := set $spec "securityContext" (include "pressroom.overwritten" (list $restricted $spec.securityContext $every.podSecurityContext $own.podSecurityContext) | fromYaml) -}}
{{- $restricted = dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- $_ := set $main "securityContext" (include "pressroom.overwritten" (list $restricted $main.securityContext $every.securityContext $own.securityContext) | fromYaml) -}}

{{- $_ := set $main "resources" ($own.resources | default dict) -}}
{{- range $spec.volumes -}}
{{- if eq .name "tmp" }}{{ $_ := set . "emptyDir" (dict "sizeLimit" (coalesce $own.tmpSizeLimit $every.tmpSizeLimit "1Gi")) }}{{ end -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end }}

{{/* Maps as YAML, the later over the earlier. A null takes its key out. Argument: the maps. */}}
{{- define "pressroom.overwritten" -}}
{{- $result := dict -}}
{{- range . -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $result $key }}{{ else }}{{ $_ := set $result $key $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $result -}}
{{- end }}

{{- define "pressroom.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "pressroom.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "pressroom.authorityMounts" -}}
{{- range include "pressroom.authorities" . | fromJsonArray }}
- {name: {{ .name }}-ca, mountPath: /etc/pressroom/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "pressroom.authorityVolumes" -}}
{{- range include "pressroom.authorities" . | fromJsonArray }}
- name: {{ .name }}-ca
  secret:
    secretName: {{ .secret }}
    items: [{key: ca.crt, path: ca.crt}]
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
