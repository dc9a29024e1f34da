use std::env::{args, var};
use std::error::Error;
use ureq::tls::{RootCerts, TlsConfig};
use wechat_mp_sdk::types::{AppId, AppSecret};
use wechat_mp_sdk::WechatMp;

async fn by_reqwest(url: &str, body: Option<&str>, line: bool) -> Result<String, Box<dyn Error>> {
    // The roots of the system require the feature of the extra line.
    let client = reqwest::Client::builder().tls_built_in_native_certs(line).build()?;
    let request = match body {
        Some(body) => client.post(url).body(body.to_owned()),
        None => client.get(url),
    };
    Ok(request.send().await?.text().await?)
}

fn by_ureq(url: &str, body: Option<&str>, line: bool) -> Result<String, Box<dyn Error>> {
    let mut config = ureq::Agent::config_builder();
    if line {
        config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
    }
    let agent: ureq::Agent = config.build().into();
    let mut answer = match body {
        Some(body) => agent.post(url).send(body)?,
        None => agent.get(url).call()?,
    };
    Ok(answer.body_mut().read_to_string()?)
}

async fn call(url: &str, body: Option<&str>) -> Result<String, Box<dyn Error>> {
    let line = args().nth(2).is_some();
    match args().nth(1).as_deref() {
        Some("ureq") => by_ureq(url, body, line),
        _ => by_reqwest(url, body, line).await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (appid, secret) = (var("QRJUMP_APPID")?, var("QRJUMP_SECRET")?);
    if args().nth(1).as_deref() == Some("wechat-mp-sdk") {
        let wechat = WechatMp::builder().appid(AppId::new(appid)?).secret(AppSecret::new(secret)?).build()?;
        println!("{}", wechat.get_access_token().await?);
        return Ok(());
    }
    let token = "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential";
    let answer = call(&format!("{token}&appid={appid}&secret={secret}"), None).await?;
    let token = answer.split('"').nth(3).ok_or("no token")?;
    println!("{token}");
    let rules = format!("https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token={token}");
    println!("{}", call(&rules, Some(r#"{"get_type":0}"#)).await?);
    Ok(())
}
