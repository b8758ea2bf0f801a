{{/* What the services are: services.json. Fails where values.yaml speaks of what there is not, or leaves out what there must be. */}}
{{- define "parley.facts" -}}
{{- $facts := .Files.Get "services.json" | fromJson -}}
{{- $all := $facts.variables -}}
{{- range $_, $fact := $facts.services -}}{{- $all = concat $all $fact.variables -}}{{- end -}}
{{- range $variable, $_ := .Values.env -}}
  {{- if not (has $variable $all) -}}{{- fail (printf "env: there is no variable %s, or the chart sets it itself; npm run config lists them" $variable) -}}{{- end -}}
{{- end -}}
{{- range $name, $own := .Values.services -}}
  {{- if not (hasKey $facts.services $name) -}}
    {{- fail (printf "services.%s: there is no such service; there are %s" $name (keys $facts.services | sortAlpha | join ", ")) -}}
  {{- end -}}
  {{- range $variable, $_ := merge (dict) ($own.env | default dict) ($own.secretEnv | default dict) -}}
    {{- if not (or (has $variable $facts.variables) (has $variable (index $facts.services $name).variables)) -}}
      {{- fail (printf "services.%s: it reads no variable %s, or the chart sets it itself; npm run config lists them" $name $variable) -}}
    {{- end -}}
  {{- end -}}
  {{- range $variable, $_ := $own.secretEnv -}}
    {{- if hasKey ($own.env | default dict) $variable -}}{{- fail (printf "services.%s: %s is in env and in secretEnv" $name $variable) -}}{{- end -}}
  {{- end -}}
  {{- if and $own.database $.Values.postgres.enabled -}}
    {{- fail (printf "services.%s.database: with postgres.enabled the chart makes its Secret" $name) -}}
  {{- end -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]{0,33}[a-z0-9])?$" .Release.Name) -}}
  {{- fail (printf "the release's name %s is part of others': it must begin with a letter, have letters, digits and dashes, and at most 35 of them" .Release.Name) -}}
{{- end -}}
{{- if not (or .Values.auth.create .Values.auth.usersJwksUrl) -}}
  {{- fail (printf "auth.usersJwksUrl: set it to the keys of your identity provider, or to file:///etc/parley/keys/users.json, where the ConfigMap %s-keys has them" .Release.Name) -}}
{{- end -}}
{{- $facts | toJson -}}
{{- end -}}

{{/* What an operator has chosen for one service, as YAML: its own settings over those of all. */}}
{{- define "parley.settings" -}}
{{- $all := pick .root.Values "replicas" "autoscaling" "resources" "env" "database" "egress" -}}
{{- mergeOverwrite (deepCopy $all) (index .root.Values.services .name | default dict) | toYaml -}}
{{- end -}}

{{/* A value as text; helm reads whole numbers as floating ones. */}}
{{- define "parley.text" -}}
{{- if kindIs "float64" . -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "parley.name" -}}
{{ .root.Release.Name }}-{{ .name }}
{{- end -}}

{{/* Of all that belongs to one service: dict "root" $ "name" "orders". */}}
{{- define "parley.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end -}}

{{/* Of pods: nothing that changes with the chart's version, or all would be rolled for it. */}}
{{- define "parley.podLabels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/part-of: parley
{{- end -}}

{{- define "parley.labels" -}}
{{ include "parley.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "parley.image" -}}
{{ .root.Values.image.prefix }}{{ .name }}:{{ include "parley.text" (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}

{{/* Of a pod and of each of its containers, as the restricted pod security standard asks. */}}
{{- define "parley.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The Secret of a service's database, and the key of the URL in it. */}}
{{- define "parley.database" -}}
{{- if .root.Values.postgres.enabled -}}
{{- dict "secret" (printf "%s-trial-database" (include "parley.name" .)) "key" "url" | toJson -}}
{{- else -}}
{{- $database := (include "parley.settings" . | fromYaml).database -}}
{{- dict "secret" ($database.secret | default (printf "%s-database" (include "parley.name" .))) "key" $database.key "caSecret" $database.caSecret | toJson -}}
{{- end -}}
{{- end -}}

{{/* Names of what has keys of tokens. What the chart makes for trials has others, which helm deletes when they are over. */}}
{{- define "parley.keySecret" -}}
{{ include "parley.name" . }}-{{ ternary "trial-key" "key" .root.Values.auth.create }}
{{- end -}}

{{- define "parley.keysConfigMap" -}}
{{ .Release.Name }}-{{ ternary "trial-keys" "keys" .Values.auth.create }}
{{- end -}}

{{/* The most pods that a service has, those aside that come and go while it is rolled out. */}}
{{- define "parley.mostReplicas" -}}
{{- $settings := include "parley.settings" . | fromYaml -}}
{{- ternary $settings.autoscaling.maxReplicas $settings.replicas $settings.autoscaling.enabled -}}
{{- end -}}

{{/*
A new key of ES256 as a JWK: its kid is the argument. genPrivateKey's PEM is the SEC 1 structure (RFC 5915) of P-256,
whose parts have fixed places: the number d of 32 bytes from the 7th on, the point's x from the 57th and y from the 89th.
*/}}
{{- define "parley.newKey" -}}
{{- $der := genPrivateKey "ecdsa" | replace "-----BEGIN EC PRIVATE KEY-----" "" | replace "-----END EC PRIVATE KEY-----" "" | replace "\n" "" | b64dec -}}
{{- $part := dict -}}
{{- range $name, $from := dict "d" 7 "x" 57 "y" 89 -}}
  {{- $_ := set $part $name (substr $from (int (add $from 32)) $der | b64enc | replace "+" "-" | replace "/" "_" | trimAll "=") -}}
{{- end -}}
{{- merge (dict "kty" "EC" "crv" "P-256" "alg" "ES256" "kid" .) $part | toJson -}}
{{- end -}}

{{/* The spec of the Job that makes the trial's databases: dict "root" $ "databases" (the Secret of each by its variable). */}}
{{- define "parley.databasesJob" -}}
{{- $name := include "parley.name" (dict "root" .root "name" "postgres") -}}
backoffLimit: 20
template:
  metadata:
    labels: {{- include "parley.podLabels" (dict "root" .root "name" "databases") | nindent 6 }}
  spec:
    restartPolicy: OnFailure
    serviceAccountName: {{ $name }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    {{- with .root.Values.imagePullSecrets }}
    imagePullSecrets: {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext: {{- include "parley.podSecurity" 65532 | nindent 6 }}
    containers:
      - name: databases
        image: {{ include "parley.image" (dict "root" .root "name" "gateway") | quote }}
        imagePullPolicy: {{ .root.Values.image.pullPolicy }}
        args: [/app/chassis/data/create-databases.ts]
        securityContext: {{- include "parley.containerSecurity" 65532 | nindent 10 }}
        resources: {{- toYaml .root.Values.resources | nindent 10 }}
        env:
          - name: POSTGRES_PASSWORD
            valueFrom:
              secretKeyRef: { name: {{ $name }}, key: password }
          - { name: PARLEY_POSTGRES_URL, value: "postgres://postgres:$(POSTGRES_PASSWORD)@{{ $name }}:5432/postgres" }
          {{- range $variable, $secret := .databases }}
          - name: {{ $variable }}
            valueFrom:
              secretKeyRef: { name: {{ $secret.secret }}, key: {{ $secret.key }} }
          {{- end }}
{{- end -}}
