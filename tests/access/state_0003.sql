BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE grants (
	id TEXT NOT NULL, 
	person TEXT NOT NULL, 
	vendor TEXT NOT NULL, 
	"database" TEXT NOT NULL, 
	policy TEXT NOT NULL, 
	policy_revision TEXT NOT NULL, 
	policy_text TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	bind_ip TEXT, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	starts_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	revoked_by TEXT, 
	revoke_reason TEXT, 
	verifier TEXT NOT NULL, 
	token_at DATETIME NOT NULL, rows_spent BIGINT DEFAULT '0' NOT NULL, bytes_spent BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "grants" VALUES('g-340z6dht','jo@vendor.example','Acme','app','reader','abababababababababababababababababababababababababababababababab','name: reader
','ticket 42',NULL,'2026-01-05 09:00:00.000000','op','2026-01-05 09:00:00.000000','2934-03-24 09:00:00.000000',NULL,NULL,NULL,'SCRAM-SHA-256$4096:Ni0jAQPqR4nK/H4hxwrINg==$Ma64bt2YAxWRF//MKz13bqp1NJAMMSjhfAb/knx16kM=:o3MVjWUlL5u+3AklQCPJHpkY/3b6q6mJe8tnotOqb74=','2026-01-05 09:00:00.000000',17,4096);
INSERT INTO "grants" VALUES('g-bzgzchpc','wa@vendor.example','Acme','app','reader','abababababababababababababababababababababababababababababababab','name: reader
','ticket 42','203.0.113.0/24','2026-01-05 09:00:00.000000','op','2931-06-28 09:00:00.000000','2931-06-29 09:00:00.000000',NULL,NULL,NULL,'SCRAM-SHA-256$4096:sRumcoGoet77N+c/LFFiXg==$rqu2Xp5fVi+qG4ACtYJi8o9tjKtEHrIt2XF0ktD6vOc=:eUb5H3+x4NnBNzm3RGUUPFzdE2Lj2d0PBXWt2Z2DXto=','2026-01-05 09:00:00.000000',0,0);
INSERT INTO "grants" VALUES('g-3mq0782r','ex@vendor.example','Acme','app','reader','abababababababababababababababababababababababababababababababab','name: reader
','ticket 42',NULL,'2026-01-05 09:00:00.000000','op','2026-01-05 09:00:00.000000','2026-01-05 10:00:00.000000',NULL,NULL,NULL,'SCRAM-SHA-256$4096:Onezg14FtWx8Ki+36a7vOQ==$bWjFJlefZNa/x3XvYILeYSEGrhWXVNOpsLDC2enjxBk=:K3fyAVw06vsVT6WruCQYkwMCnlrbNxIzRZn/ZWDO6CU=','2026-01-05 09:00:00.000000',0,0);
INSERT INTO "grants" VALUES('g-9cbqcpva','re@vendor.example','Acme','app','reader','abababababababababababababababababababababababababababababababab','name: reader
','ticket 42',NULL,'2026-01-05 09:00:00.000000','op','2026-01-05 09:00:00.000000','2934-03-24 09:00:00.000000','2026-01-05 09:00:00.000000','ann','theft','SCRAM-SHA-256$4096:x1C5lLGc4i2KJglgmr7XMg==$xb096NX9p+TRNVsappco0XfF37lb16xTVVRaxgyBpuA=:YKEEPCnHV4vfPvXr4G4tYOieVVKgCbsd08TYXgnNPH8=','2026-01-05 09:00:00.000000',0,0);
CREATE TABLE installation (
	one INTEGER NOT NULL CHECK (one = 1), 
	id TEXT NOT NULL, 
	mock_key BLOB NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (one)
);
INSERT INTO "installation" VALUES(1,'2daae22c',X'7A3CC8C1B16F0C0D0C038C56122CA3437E398D3A4B6001DB76A7D3C0AF608EA6','2026-11-26 20:52:55.264815');
CREATE TABLE kills (
	id TEXT NOT NULL, 
	session TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	asked_by TEXT NOT NULL, 
	asked_at DATETIME NOT NULL, 
	taken_at DATETIME, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_grants_expires_at ON grants (expires_at);
COMMIT;
